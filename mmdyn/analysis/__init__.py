"""What the scripts of tools/analysis_tools compute: costs, times, routes, budgets, robustness."""
