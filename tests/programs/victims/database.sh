# Transactions on a database in a file, with a journal, read back at the end.
# Each locks the file.
number=0
{
  echo 'pragma journal_mode=delete; pragma synchronous=off; create table t (id integer primary key, a integer, b text);'
  while [ $number -lt $((1000 * WORK)) ]; do
    number=$((number + 1))
    echo "begin; with recursive n(i) as (select 1 union all select i + 1 from n where i < 40)
          insert into t (a, b) select (i * 7919 + $number * $SEED) % 10007, hex(i * $number) from n;
          update t set a = a + 1 where id % 97 = $number % 97; commit;"
  done
  echo 'pragma integrity_check; select count(*), sum(a), sum(length(b)) from t;'
} | sqlite3 /job/db
