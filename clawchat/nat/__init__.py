"""Reaching a peer behind NATs, sans-IO: STUN, candidates, port mapping, prediction.

Empty until it is specified: today a listener must be reachable at one of its candidates.
"""
