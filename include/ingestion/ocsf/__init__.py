"""Raw events to OCSF: a mapping language, its compiler, and the engines that run what it compiles to."""
