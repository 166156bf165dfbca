#!/usr/bin/env bash

#SBATCH -J solar-20260102-030405-a1b2
#SBATCH -p long
#SBATCH -A GCIMS
#SBATCH -n 1
#SBATCH --cpus-per-task=10
#SBATCH --mem=3000M
#SBATCH -t 01:30:00
#SBATCH --qos=high
#SBATCH --reservation='for us'
#SBATCH --comment='scalable pool=simulate host=login1 pid=42 started=7'
#SBATCH --no-requeue
#SBATCH -o '/home/ada/runs/solar study/jobs/simulate-%A_%a.log'
#SBATCH --exclusive
export OMP_NUM_THREADS=1
export MKL_NUM_THREADS=1
export OPENBLAS_NUM_THREADS=1
export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'
module load python
. /models/setup.sh || exit
export SUN_HOME='/opt/sun city'
export MOTTO='it'"'"'s $HOME'
exec /opt/python/bin/python3 -m distributed.cli.dask_worker tls://10.0.0.1:8786 --name "simulate-$((3+SLURM_ARRAY_TASK_ID))~" --nthreads 4 --memory-limit 1572864000 --nworkers 2 --nanny --death-timeout 60 --no-dashboard --dashboard-address 127.0.0.1:0 --resources 'simulate=1000000000 compute-heavy=1000000000 licence=2 big=1000000000 threads=4' --preload scalable.pools.worker_setup --preload-nanny scalable.pools.nanny_setup --interface ib0 --protocol tls --tls-ca-file /home/ada/.scalable/tls-1/ca.pem --tls-cert /home/ada/.scalable/tls-1/cert.pem --tls-key /home/ada/.scalable/tls-1/key.pem
