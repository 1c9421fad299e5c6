"""The checks of a plugin, and the template of a new one."""
