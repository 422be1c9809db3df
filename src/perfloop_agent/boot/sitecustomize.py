"""First thing that a Python under ``perfloop run`` imports: starts the agent, then hands over to the sitecustomize that would have run without us."""

import importlib.machinery
import importlib.util
import os
import sys


def _start() -> None:
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    spec = importlib.util.spec_from_file_location("perfloop_agent", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder])
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["perfloop_agent"] = module
    spec.loader.exec_module(module)
    from perfloop_agent import agent

    agent.start()


def _hand_over() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    others = [path for path in sys.path if os.path.abspath(path or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


try:
    _start()
except Exception as error:
    if os.environ.get("PERFLOOP_AGENT_DEBUG"):
        sys.stderr.write("perfloop agent: not started: %r\n" % (error,))
_hand_over()
