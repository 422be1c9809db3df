"""Log in with JSON, take the token, two GETs with data from a CSV, log out; a check each."""

from perfloop.load.script import User, rows

people = rows("people.csv")


async def buy(user: User) -> None:
    person = people.row(user.iteration)
    login = await user.post("/login", json={"name": person["name"], "password": "x"})
    user.check("logged in", login.status == 200)
    headers = {"Authorization": f"Bearer {login.json()['user']['token']}"}
    orders = await user.get(f"/orders/{person['order']}", name="orders", headers=headers)
    user.check("two items", len(orders.json()["items"]) == 2)
    item = await user.get(f"/items/{person['item']}", name="items", headers=headers)
    user.check("a price", item.json()["price"] > 0)
    bye = await user.post("/logout", headers=headers)
    user.check("logged out", bye.json()["ok"] is True)
