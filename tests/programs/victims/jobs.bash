# Background jobs, each adding up, that tell the first process by a signal and are waited for.
told=0
trap 'told=$((told + 1))' USR1
trap 'echo "ended: $total, told: $((told > 0))"' EXIT
job() {
  local sum=$((SEED * 100 + $1))
  for ((i = 0; i < 100000 * WORK; i++)); do
    ((sum = (sum * 31 + i) % 1000003))
    ((i % 20000 == 0)) && kill -USR1 $$
  done
  echo $sum >"/job/sum.$1"
}
for number in 1 2 3 4; do
  job $number &
  pids[number]=$!
done
for number in 1 2 3 4; do
  # A trapped signal ends the wait, but not the job.
  while kill -0 "${pids[number]}" 2>/dev/null; do wait "${pids[number]}"; done
  total=$((total + $(cat /job/sum.$number)))
  echo "job $number: $(cat /job/sum.$number)"
done
