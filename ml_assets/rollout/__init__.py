"""How a release reaches traffic: plan, stages, guardrails. Only the routing table exists yet."""
