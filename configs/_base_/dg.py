# Hands each prediction its own wiring; the routers learn from the task alone.
custom_hooks = [dict(type='mmdyn.DynamicModelHook')]
