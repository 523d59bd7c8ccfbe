namespace cpp understudy.smoke

const i32 ANSWER = 42

struct Entry {
  1: i64 lsn
  2: binary data
}

service Smoke {
  i64 Append(1: Entry entry)
}
