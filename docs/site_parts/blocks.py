"""The blocks of Python in a page, which the tests execute and the site too."""

import re

# The code is the first group.
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.S | re.M)
