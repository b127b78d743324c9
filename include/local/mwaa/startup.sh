#!/bin/bash
# MWAA runs this on every container, before requirements.txt is installed and Airflow starts; it ends it after five minutes.
# Workers get the warehouse environment (dbt and Soda), which can't share Airflow's, from the wheels of plugins.zip and nothing else.
#
# MWAA sources this file in its own shell, keeps the environment that it leaves, and takes no notice of an exit status. There `exit` is an
# alias that goes on as if all was well, so a failure leaves by `\exit`: then the container does not start, an update of the environment
# rolls back, and no task meets a worker without dbt. So also: no `set`, and nothing is exported that only the build needs. PIP_USER=false,
# for one, would reach the installation of requirements.txt.

export DO_NOT_TRACK=1
export AIRFLOW__DATA_PLATFORM__WAREHOUSE_VENV="${AIRFLOW__DATA_PLATFORM__WAREHOUSE_VENV:-${AIRFLOW_HOME:-/usr/local/airflow}/warehouse-venv}"

build_warehouse() (
  home=${AIRFLOW_HOME:-/usr/local/airflow}
  venv=$AIRFLOW__DATA_PLATFORM__WAREHOUSE_VENV
  wheels=$home/plugins/wheels/warehouse
  lock=$wheels/lock.txt
  failed() { echo "startup: $1" >&2; \exit 1; }
  SECONDS=0
  # Run a command until so many seconds after this script's start, whatever was spent before; the exit status is 124 if that is too late.
  # So what has gone wrong is said here, before MWAA ends the script without a word. In the foreground: what ends the shell's process group
  # ends the command, too, else it would go on writing where the next start begins.
  by() {
    left=$(($1 - SECONDS))
    [ "$left" -gt 0 ] || return 124
    shift
    timeout --foreground "$left" "$@"
  }

  tries=30
  until [ -r "$lock" ]; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || failed "expected $lock, found none; upload plugins.zip and startup.sh of the same package, with both object versions"
    sleep 1
  done
  python3 -c 'import sys; raise SystemExit(sys.version_info[:2] != (3, 12))' \
    || failed "expected Python 3.12 as python3, found $(python3 --version 2>&1); the wheels are built for that"
  want=$(sha256sum <"$lock") && want="${want%% *} $(python3 --version)" || failed "the hash of $lock could not be taken"

  if [ "$(cat "$venv/.complete" 2>/dev/null)" = "$want" ]; then
    echo "startup: the warehouse environment at $venv is complete"
    \exit 0
  fi
  if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ] && [ ! -e "$venv/.building" ]; then
    failed "expected nothing or an environment at $venv, found something else; set data_platform.warehouse_venv to a path of its own"
  fi
  # Scripts name their interpreter by its path, so the environment can't be renamed into place; a marker that is written last says that
  # it is whole.
  rm -rf "$venv" && mkdir -p "$venv" && : >"$venv/.building" || failed "$venv could not be emptied"
  by 240 python3 -m venv "$venv"
  status=$?
  [ "$status" != 124 ] || failed "python3 had not made an environment at $venv within 240 s; choose a larger environment class"
  [ "$status" = 0 ] || failed "python3 could not make an environment at $venv (exit status $status)"
  # Neither this container's settings for pip nor its PYTHON* variables (PIP_USER, PYTHONPATH) reach the environment.
  by 240 env PIP_CONFIG_FILE=/dev/null "$venv/bin/python" -I -m pip --isolated install --quiet --disable-pip-version-check \
    --no-cache-dir --no-index --find-links "$wheels" --no-deps --require-hashes --requirement "$lock"
  status=$?
  [ "$status" != 124 ] || failed "pip had not installed $wheels within 240 s; choose a larger environment class"
  [ "$status" = 0 ] || failed "pip could not install $wheels (exit status $status); build the package again with make package-mwaa"
  by 280 "$venv/bin/python" -I -c 'import dbt.adapters.redshift, dbt.cli.main, soda.data_sources.redshift_data_source, soda.scan'
  status=$?
  [ "$status" != 124 ] || failed "dbt and Soda were installed but not imported within 280 s; choose a larger environment class"
  [ "$status" = 0 ] || failed "dbt and Soda were installed but can't be imported (exit status $status)"
  rm -f "$venv/.building" && printf '%s\n' "$want" >"$venv/.complete.new" && mv "$venv/.complete.new" "$venv/.complete" \
    || failed "$venv could not be marked as complete"
  echo "startup: the warehouse environment at $venv was built in $SECONDS s"
)

case "${MWAA_AIRFLOW_COMPONENT:-}" in
  # hybrid: mw1.micro runs its only worker beside the scheduler. test-startup-script: a command of AWS's local image.
  worker | hybrid | test-startup-script)
    if ! build_warehouse; then
      echo "startup: the warehouse environment could not be built; this worker does not start" >&2
      \exit 1
    fi
    ;;
esac
unset -f build_warehouse
