"""Tests of what a cluster gets: the chart with its recipes, the alerts, the dashboard. Nothing here needs a cluster."""
