"""Where routes and rules stand (PRODUCT section 5): full and split tunnels, the LAN, pins, the way back. Pure.

`lan` says which networks stay local, `lay` what goes into each tunnel and which table it stands in, `routes` and `rules`
what one tunnel wants, `shared` what belongs to the host: it follows from all tunnels together.
"""
