# The two commands of the README: `make demo` and `make test`. Both make their environment if need be.
PY := .venv/bin/python
RUN := OMP_NUM_THREADS=2 $(PY)

.PHONY: demo test fashion format

.venv/ready: pyproject.toml constraints.txt
	python3 -m venv .venv
	$(PY) -m pip install -q -c constraints.txt torch
	$(PY) -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

demo: .venv/ready
	$(RUN) experiments/compare_guides.py --data digits --out runs/digits

fashion: .venv/ready
	$(RUN) experiments/compare_guides.py --data fashion-mnist --epochs 10 --out runs/fashion-mnist

test: .venv/ready
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(RUN) -m pytest --cov=pyro_lfm --cov-report=term

format: .venv/ready
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .
