"""How good a network is: metrics with intervals, costs, figures, and the report."""
