"""Requests, events, failures and limits. Knows neither edge."""
