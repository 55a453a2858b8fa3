"""tutorials/render.py and its parts, for the tests: `python tutorials/render.py` finds them beside itself."""

import importlib.util
import sys

from conftest import ROOT

TUTORIALS = ROOT / "tutorials"
CHAPTERS = sorted(TUTORIALS.glob("[0-9][0-9]_*.py"))

sys.path.insert(0, str(TUTORIALS))  # as for `python tutorials/render.py`
spec = importlib.util.spec_from_file_location("render", TUTORIALS / "render.py")
render = importlib.util.module_from_spec(spec)
spec.loader.exec_module(render)
pages, pictures = sys.modules["pages"], sys.modules["pictures"]
twins = sys.modules["twins"]
