// filter_record: from now on write what the filter is made of, and the compiled filter, to fd when it is exported.
void filter_record(int fd);
