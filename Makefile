# The two commands of the README: `make demo` and `make test`. Both make their environment if need be.
PYTHON ?= python3
PY := .venv/bin/python
# Two threads, or two processes of one: more cost time at these sizes, and the figures in the README are of two.
RUN := OMP_NUM_THREADS=2 $(PY)

.PHONY: demo test docs slow kill fuzz coverage fashion package format clean

# torch comes first, and pinned: on its own, pip would take the newest build that some dependency admits.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install -q -c constraints.txt torch
	$(PY) -m pip install -q -c constraints.txt -e '.[dev]'
	sh tests/explorer/install_chromium.sh
	touch $@

demo: .venv/ready
	$(RUN) experiments/compare_guides.py --data digits --out runs/digits

# Fashion-MNIST is read where it is, or fetched from Debian or by torchvision; where neither can be, a sentence says what to do.
fashion: .venv/ready
	$(RUN) experiments/compare_guides.py --data fashion-mnist --epochs 10 --out runs/fashion-mnist

test: .venv/ready
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal

# The site, in build/docs/index.html. Pages are executed once; their outputs are kept until the package changes.
docs: .venv/ready
	OMP_NUM_THREADS=1 $(PY) -m sphinx -W --keep-going -q -j 2 -b html docs build/docs

# What takes too long for every change.
slow: .venv/ready
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal -m slow

# A hundred kills of a fit at random moments under each engine, each followed by a fit that must end in the same numbers.
kill: .venv/ready
	OMP_NUM_THREADS=1 $(PY) -m pytest -m kill

# A hundred thousand files, changed at random, for all readers together.
fuzz: .venv/ready
	FUZZ_EXAMPLES=10400 OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal tests/fuzz

# The wheel and the source archive: what they hold, and a first use of each in a clean environment. Needs the package registry.
package: .venv/ready
	OMP_NUM_THREADS=2 $(PY) tests/package/build_and_try.py

# Apart from the tests, which tracing every line of torch and Pyro slows down.
coverage: .venv/ready
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --cov=pyro_lfm --cov-report=term

format: .venv/ready
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf .venv runs
