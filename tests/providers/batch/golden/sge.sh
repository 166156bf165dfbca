#!/usr/bin/env bash

#$ -N solar-20260102-030405-a1b2
#$ -q long
#$ -P GCIMS
#$ -l h_vmem=3000M
#$ -l h_rt=01:30:00
#$ -cwd
#$ -j y
#$ -S /bin/bash
#$ -r n
#$ -o '/home/ada/runs/solar study/jobs/simulate-$JOB_ID.log'
#$ -pe smp 10
export OMP_NUM_THREADS=1
export MKL_NUM_THREADS=1
export OPENBLAS_NUM_THREADS=1
export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'
module load python
. /models/setup.sh || exit
export SUN_HOME='/opt/sun city'
export MOTTO='it'"'"'s $HOME'
exec /opt/python/bin/python3 -m distributed.cli.dask_worker tls://10.0.0.1:8786 --name simulate-3~ --nthreads 4 --memory-limit 1572864000 --nworkers 2 --nanny --death-timeout 60 --no-dashboard --dashboard-address 127.0.0.1:0 --resources 'simulate=1000000000 compute-heavy=1000000000 licence=2 big=1000000000 threads=4' --preload scalable.pools.worker_setup --preload-nanny scalable.pools.nanny_setup --interface ib0 --protocol tls --tls-ca-file /home/ada/.scalable/tls-1/ca.pem --tls-cert /home/ada/.scalable/tls-1/cert.pem --tls-key /home/ada/.scalable/tls-1/key.pem
