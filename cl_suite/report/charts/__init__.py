"""Charts of tables, comparisons and runs: plain data in, a figure out. Matplotlib is imported when one is drawn."""

from cl_suite.report.charts.lines import average_chart, profile_chart, tasks_chart
from cl_suite.report.charts.matrix import matrix_chart
from cl_suite.report.charts.points import intervals_chart, scatter_chart
from cl_suite.report.charts.ranks import ranks_chart
from cl_suite.report.charts.style import as_svg, pareto_front, to_png

__all__ = [
    "as_svg",
    "average_chart",
    "intervals_chart",
    "matrix_chart",
    "pareto_front",
    "profile_chart",
    "ranks_chart",
    "scatter_chart",
    "tasks_chart",
    "to_png",
]
