"""What people see: the console, tables, Markdown and the report."""
