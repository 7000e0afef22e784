// filter_record: from now on write what the filter is made of, and the compiled filter, to fd when it is exported.
void filter_record(int fd);

// filter_follow: fd is a file that filter_record wrote. While libseccomp is told the same again, rules are not compiled and
// the filter exported is the one in the file. 0, or -1 if the file is not good: then nothing changes.
int filter_follow(int fd);
