# gcc compiles a large file; the object must be the same to the bit.
awk -v functions=$((200 * WORK)) -v seed="$SEED" 'BEGIN {
  for (n = 0; n < functions; ++n) {
    printf "double f%d(double* a, int n) { double s = %d; ", n, n + seed
    printf "for (int i = 0; i < n; ++i) { s += a[i] * %d; if (s > %d) s /= %d; ", n % 7 + 1, n, n % 5 + 2
    printf "switch ((int)s & 7) { case %d: s *= 1.5; break; case %d: a[i] = s; } } ", n % 8, (n + 3) % 8
    printf "return s%s; }\n", n ? " + f" n - 1 "(a, n)" : ""
  }
}' >/job/large.c
gcc -O2 -c /job/large.c -o /job/large.o && sha256sum </job/large.o
