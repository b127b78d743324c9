"""Tell, as JSON, what Airflow sees of a tree: ``dags folder`` is the argument, the rest is configuration. Run in a process of its own."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys


def kinds(base):
    found = set()
    for kind in base.__subclasses__():
        found |= {kind, *kinds(kind)}
    return found


def watchers(serialized):
    """Name and trigger of every watcher in a serialised DAG."""
    if isinstance(serialized, dict):
        for key, value in serialized.items():
            if key == "watchers":
                yield from (f"{each['name']}: {json.dumps(each['trigger'], sort_keys=True)}" for each in value)
            else:
                yield from watchers(value)
    elif isinstance(serialized, list):
        for each in serialized:
            yield from watchers(each)


def main():
    from airflow import plugins_manager
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.triggers.base import BaseTrigger

    bag = DagBag(dag_folder=sys.argv[1])
    dags = {}
    for dag_id, dag in bag.dags.items():
        serialized = DagSerialization.to_dict(dag)
        dags[dag_id] = {
            "tasks": sorted(f"{task.task_id}: {type(task).__module__}.{type(task).__name__}" for task in dag.tasks),
            "watchers": sorted(set(watchers(serialized))),
            "serialized": json.dumps(serialized, sort_keys=True).replace(sys.argv[1], "<dags>"),
        }

    import data_platform

    for module in pkgutil.walk_packages(data_platform.__path__, "data_platform."):
        importlib.import_module(module.name)
    plugins_manager.ensure_plugins_loaded()
    apps, middlewares = plugins_manager.get_fastapi_plugins()
    views, react_apps = plugins_manager._get_ui_plugins()
    plugins, _ = plugins_manager._get_plugins()
    import include

    print(
        json.dumps(
            {
                "dags": dags,
                "dag_errors": bag.import_errors,
                "plugins": sorted(plugin.name for plugin in plugins),
                "plugin_errors": plugins_manager.get_import_errors(),
                "apps": sorted(f"{app['name']} at {app['url_prefix']}" for app in apps),
                "views": sorted(f"{view['name']} at {view['href']}" for view in views),
                "middlewares": len(middlewares),
                "react_apps": len(react_apps),
                "listeners": sorted(
                    str(getattr(each, "__name__", each)) for plugin in plugins for each in plugin.listeners
                ),
                "triggers": sorted(
                    f"{kind.__module__}.{kind.__name__}"
                    for kind in kinds(BaseTrigger)
                    if kind.__module__.startswith("data_platform.")
                ),
                "library": include.__file__,
                "plugins_from": data_platform.__file__,
            }
        )
    )


if __name__ == "__main__":
    main()
