# Interval timers interrupt a computation; each number of ticks is reached, and no result depends on when.
use strict;
use warnings;
use Time::HiRes qw(setitimer ITIMER_REAL ITIMER_VIRTUAL time);

my ($real, $virtual, $sum) = (0, 0, $ENV{SEED});
local $SIG{ALRM} = sub { $real++ };
local $SIG{VTALRM} = sub { $virtual++ };
setitimer(ITIMER_REAL, 0.02, 0.02);
setitimer(ITIMER_VIRTUAL, 0.02, 0.02);
for my $i (1 .. 24_000_000 * $ENV{WORK}) { $sum = ($sum * 31 + $i) % 1_000_003 }
my $begin = time;
my ($r, $v) = ($real, $virtual);
while ($real < $r + 20 || $virtual < $v + 5) { die "the timers stopped" if time > $begin + 60 }
print "sum $sum, both timers rang: ", ($r > 0 && $v > 0 ? "yes" : "no"), "\n";
