// Fifty threads make, link and drop objects, so that the collector moves the survivors all the time.
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class Collector {
  static final int THREADS = 50;
  static final int STEPS = 35000 * Integer.parseInt(System.getenv("WORK"));
  static final int SEED = Integer.parseInt(System.getenv("SEED"));

  static long compute(int number) {
    long random = (THREADS * SEED + number) * 0x9E3779B97F4A7C15L + 1;
    long sum = 0;
    HashMap<Integer, byte[]> kept = new HashMap<>();
    ArrayDeque<String> recent = new ArrayDeque<>();
    for (int step = 0; step < STEPS; ++step) {
      random ^= random << 13;
      random ^= random >>> 7;
      random ^= random << 17;
      byte[] fresh = new byte[64 + (int) (random & 1023)];
      for (int i = 0; i < fresh.length; i += 16) fresh[i] = (byte) (random >>> (i & 31));
      byte[] old = kept.put((int) (random >>> 20 & 255), fresh);
      if (old != null) for (int i = 0; i < old.length; i += 16) sum = sum * 31 + old[i];
      recent.add(Long.toHexString(random));
      if (recent.size() > 100) sum += recent.poll().hashCode();
    }
    return sum;
  }

  public static void main(String[] arguments) throws Exception {
    ExecutorService pool = Executors.newFixedThreadPool(THREADS);
    List<Future<Long>> results = new ArrayList<>();
    for (int i = 0; i < THREADS; ++i) {
      final int number = i;
      results.add(pool.submit(() -> compute(number)));
    }
    for (Future<Long> result : results) System.out.println(result.get());
    pool.shutdown();
  }
}
