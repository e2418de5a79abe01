"""Records to tables, figures and pages: only what is comparable shares a table. Never imports torch."""
