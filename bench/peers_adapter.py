"""manyhands beside its peers: PEERS_ADAPTERS="manyhands=bench/peers_adapter.py:Manyhands"."""

import functools

from adapters import WORKERS, Adapter, Ref


class Manyhands(Adapter):
    """A local cluster: scheduler, worker and object store within the client's process."""

    def start(self):
        import manyhands as mh

        self.client = mh.Client(workers=WORKERS)
        # A function is wrapped once and kept, as a user's decorator does.
        self.lazy = functools.cache(mh.delayed)
        self.submit_one = self.client.submit
        self.pool = mh.Pool(client=self.client)

    def stop(self):
        self.pool.terminate()
        self.client.shutdown()

    def submit(self, fn, *args, worker=None, nout=1):
        """`worker` is of no use here: executors of one machine share its memory."""
        if nout == 1:
            return self.submit_one(fn, *args)
        return self.client.options(nout=nout).submit(fn, *args)

    def gather(self, futures):
        return self.client.gather(futures)

    def map(self, fn, xs):
        return self.pool.map(fn, xs)

    def graph(self, nodes, out):
        made = []

        def argument(given):
            if isinstance(given, Ref):
                return made[given.index]
            if isinstance(given, (list, tuple)):
                return [argument(item) for item in given]
            return given

        for fn, args in nodes:
            made.append(self.lazy(fn)(*map(argument, args)))
        return self.client.compute([made[out]])[0].result()

    def put(self, value):
        return self.client.put(value)

    def dask_scheduler(self):
        import manyhands.dask

        return manyhands.dask.Scheduler(self.client)
