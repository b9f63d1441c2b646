"""Who may do what: the gate in front of the API, the policy it goes by, and the tokens it looks at."""
