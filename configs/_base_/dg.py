# Hands each prediction its own wiring; the routers learn from the task alone. On photographs (configs/robocup_ssl) that
# gave no clear gain over the static network. None of this was measured on COCO or ImageNet.
custom_hooks = [dict(type='mmdyn.DynamicModelHook')]
