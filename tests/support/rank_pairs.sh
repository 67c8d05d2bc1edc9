#!/bin/sh
# Runs a command as one rank of a launcher, two ranks sharing a node identity: some share memory, some do not.
rank=${PMIX_RANK:-${OMPI_COMM_WORLD_RANK:-${SLURM_PROCID:-0}}}
TRIREME_NODE_ID="node$((rank / 2))" exec "$@"
