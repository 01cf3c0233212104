"""Processes that share an array and a counter under a lock, and queue their results to the first one."""
import hashlib
import multiprocessing
import os
from multiprocessing import shared_memory

WORKERS, STEPS, SLOTS = 4, 600 * int(os.environ["WORK"]), 4096


def work(number, block, lock, total, results):
    memory = shared_memory.SharedMemory(name=block)
    digest = hashlib.sha256(f"{os.environ['SEED']} {number}".encode())
    for step in range(STEPS):
        for _ in range(2000):
            digest.update(digest.digest())
        with lock:
            total.value += digest.digest()[0]
            slot = (step * WORKERS + number) % SLOTS
            memory.buf[slot] = (memory.buf[slot] + digest.digest()[1]) % 256
    results.put((number, digest.hexdigest()))
    memory.close()


def main():
    memory = shared_memory.SharedMemory(create=True, size=SLOTS)
    lock, total, results = multiprocessing.Lock(), multiprocessing.Value("q", 0, lock=False), multiprocessing.Queue()
    workers = [multiprocessing.Process(target=work, args=(number, memory.name, lock, total, results)) for number in range(WORKERS)]
    for worker in workers:
        worker.start()
    found = sorted(results.get() for _ in workers)
    for worker in workers:
        worker.join()
    print(found, total.value, hashlib.sha256(bytes(memory.buf)).hexdigest())
    memory.close()
    memory.unlink()


if __name__ == "__main__":
    main()
