"""Which backbone, before anything is trained: out-of-fold answers from cached features, size, and measured speed.

candidates ─► probed (features from the cache, out-of-fold answers) ─► speed (export, measured in turns)
           └► results (ties, what to take) ─► advice, figure, page
"""

from importlib.util import find_spec

from kerasxfer_serving.errors import KerasxferError

for _name in ("jinja2", "scipy", "sklearn"):
    if find_spec(_name) is None:
        raise KerasxferError(f'Choosing a backbone needs `{_name}`. Run: pip install "kerasxfer[report]"')
