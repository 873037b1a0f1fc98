"""What front ends that answer over HTTP share, ``serving`` and ``explorer``: bodies, refusals, JSON, the socket."""
