"""From a bundle here to a release proven on boards: hosts, one board's conversation with its agent, the fleet, the report.

The board's side is `runtime/agent/`, whose README is the contract between the two.
"""
