import http from 'k6/http';
import { check } from 'k6';
import { SharedArray } from 'k6/data';
import exec from 'k6/execution';
const people = new SharedArray('people', () => open('./people.csv').trim().split('\n').slice(1).map((line) => line.split(',')));
export const options = { vus: 50, duration: __ENV.DURATION };
export default function () {
  const [name, order, item] = people[exec.scenario.iterationInTest % people.length];
  const login = http.post(`${__ENV.URL}/login`, JSON.stringify({ name, password: 'x' }), { headers: { 'Content-Type': 'application/json' } });
  check(login, { 'logged in': (r) => r.status === 200 });
  const params = { headers: { Authorization: `Bearer ${login.json('user.token')}` } };
  const orders = http.get(`${__ENV.URL}/orders/${order}`, { ...params, tags: { name: 'orders' } });
  check(orders, { 'two items': (r) => r.json('items').length === 2 });
  const found = http.get(`${__ENV.URL}/items/${item}`, { ...params, tags: { name: 'items' } });
  check(found, { 'a price': (r) => r.json('price') > 0 });
  const bye = http.post(`${__ENV.URL}/logout`, null, params);
  check(bye, { 'logged out': (r) => r.json('ok') === true });
}
