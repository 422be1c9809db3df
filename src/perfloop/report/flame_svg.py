"""A flame graph as one SVG that needs no script: boxes stand at percent positions, so that it fits any width; scripts add zoom and search."""

from __future__ import annotations

from pathlib import PurePath

from markupsafe import Markup, escape

from perfloop.model.result import FlameChange, FlameNode
from perfloop.report.svg import element, joined
from perfloop.report.text import percent, printable, seconds

ROW_PX = 19
SHARE_MIN = 0.002  # of the whole: 2 px on a wide screen
COLLAPSE_MIN = 3  # library frames in a row that lead to one and the same place


def flame_svg(root: FlameNode | None, source_root: str = "") -> Markup:
    """The graph, root on top; the service's own code (under ``source_root``) stands out, runs of library frames are folded into one box."""
    if root is None or root.value <= 0:
        return Markup("")
    boxes: list[Markup] = []
    depth = _draw(boxes, root, root.value, source_root, 0.0, 0)
    height = (depth + 1) * ROW_PX
    return element(
        "svg", joined(boxes), width="100%", height=height, class_="flame", role="img", aria_label="Flame graph: inclusive time by call path, callers on top"
    )


def _draw(boxes: list[Markup], node: FlameNode, total: float, source_root: str, x: float, depth: int) -> int:
    """Draws a node and its children; the deepest row that was drawn."""
    node, folded = _folded(node, source_root)
    own = _own(node, source_root)
    width = node.value / total * 100
    label = f"{printable(node.name)}{f' +{folded} library frames' if folded else ''}"
    place = f"{printable(node.file)}{f':{node.line}' if node.line else ''}"
    title = f"{label}\n{place}\n{seconds(node.value)}, {percent(node.value / total)}"
    shade = sum(node.name.encode()) % 3
    inner = element("title", escape(title)) + element("rect", width="100%", height=ROW_PX - 1, rx=2)
    if width > 1.2:
        inner += element("text", escape(label), x=5, y=13)
    kind = "root" if not node.file and depth == 0 else f"own s{shade}" if own else f"lib s{shade}"
    boxes.append(element("svg", inner, x=f"{x:.3f}%", y=depth * ROW_PX, width=f"{width:.3f}%", height=ROW_PX, class_=f"f {kind}"))
    deepest = depth
    for child in node.children:
        if child.value / total >= SHARE_MIN:
            deepest = max(deepest, _draw(boxes, child, total, source_root, x, depth + 1))
        x += child.value / total * 100
    return deepest


def _own(node: FlameNode, source_root: str) -> bool:
    if not node.file or "site-packages" in node.file or "dist-packages" in node.file:
        return False
    return PurePath(node.file).is_relative_to(source_root) if source_root else "/lib/python" not in node.file and node.file.startswith("/")


def _folded(node: FlameNode, source_root: str) -> tuple[FlameNode, int]:
    """The last of a run of library frames that pass (nearly) all their time on, and how many were passed over."""
    last, count = node, 0
    while node.file and not _own(last, source_root) and len(last.children) >= 1:
        child = last.children[0]
        if _own(child, source_root) or child.value < 0.98 * last.value:
            break
        last, count = child, count + 1
    return (last.model_copy(update={"name": f"{node.name} … {last.name}", "value": node.value}), count - 1) if count + 1 >= COLLAPSE_MIN else (node, 0)


def flame_change_svg(root: FlameChange | None, source_root: str = "") -> Markup:
    """What changed, per request: as wide as the longer of both; coloured only where the interval of the difference leaves no doubt."""
    if root is None or _wide(root) <= 0:
        return Markup("")
    boxes: list[Markup] = []
    depth = _draw_change(boxes, root, _wide(root), 0.0, 0)
    label = "Differential flame graph: change of thread time per request by call path, coloured where it is proven"
    return element("svg", joined(boxes), width="100%", height=(depth + 1) * ROW_PX, class_="flame", role="img", aria_label=label)


def _wide(node: FlameChange) -> float:
    return max(node.before_s, node.after_s, sum(_wide(child) for child in node.children))


def _draw_change(boxes: list[Markup], node: FlameChange, total: float, x: float, depth: int) -> int:
    width = _wide(node) / total * 100
    label = printable(node.name)
    place = f"{printable(node.file)}{f':{node.line}' if node.line else ''}"
    change = f"{seconds(node.before_s)} → {seconds(node.after_s)} a request, difference {seconds(node.low_s)} to {seconds(node.high_s)}"
    title = f"{label}\n{place}\n{change}{'' if node.proven else ', not proven'}"
    inner = element("title", escape(title)) + element("rect", width="100%", height=ROW_PX - 1, rx=2)
    if width > 1.2:
        inner += element("text", escape(label), x=5, y=13)
    kind = ("more" if node.low_s > 0 else "less") if node.proven else "same"
    boxes.append(element("svg", inner, x=f"{x:.3f}%", y=depth * ROW_PX, width=f"{width:.3f}%", height=ROW_PX, class_=f"f {kind}"))
    deepest = depth
    for child in sorted(node.children, key=lambda item: -_wide(item)):
        if _wide(child) / total >= SHARE_MIN:
            deepest = max(deepest, _draw_change(boxes, child, total, x, depth + 1))
        x += _wide(child) / total * 100
    return deepest
