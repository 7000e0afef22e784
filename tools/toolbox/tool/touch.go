package tool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// touch sets times to now, or to those of -r FILE, or to -d TIME; -a or -m one of the two only; -c makes no files; -h
// touches a link itself.
func touch(p *Proc) error {
	o, args, err := p.opts("camhr:d:", "no-create=c", "reference=r", "date=d", "no-dereference=h")
	if err != nil {
		return err
	}
	if err := need(args, 1); err != nil {
		return err
	}
	when, err := timeOf(o)
	if err != nil {
		return err
	}
	ts, omit := unix.NsecToTimespec(when.UnixNano()), unix.Timespec{Nsec: unix.UTIME_OMIT}
	times := []unix.Timespec{ts, ts}
	if o.has('a') && !o.has('m') {
		times[1] = omit
	} else if o.has('m') && !o.has('a') {
		times[0] = omit
	}
	flags := 0
	if o.has('h') {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	for _, name := range args {
		err := unix.UtimesNanoAt(unix.AT_FDCWD, name, times, flags)
		if errors.Is(err, unix.ENOENT) {
			if o.has('c') {
				continue
			}
			var f *os.File
			if f, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o666); err == nil {
				f.Close()
				err = unix.UtimesNanoAt(unix.AT_FDCWD, name, times, flags)
			}
		}
		if err != nil {
			p.warn(&fs.PathError{Op: "touch", Path: name, Err: err})
		}
	}
	return nil
}

// timeOf is the time that -r or -d names, else now.
func timeOf(o opts) (time.Time, error) {
	if o.has('r') {
		st, err := os.Stat(o.last('r', ""))
		if err != nil {
			return time.Time{}, err
		}
		return st.ModTime(), nil
	}
	if o.has('d') {
		return parseTime(o.last('d', ""))
	}
	return time.Now(), nil
}

// parseTime reads "@seconds", "now" and the usual ways to write a date.
func parseTime(text string) (time.Time, error) {
	if text == "now" {
		return time.Now(), nil
	}
	if s, ok := strings.CutPrefix(text, "@"); ok {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("bad time %q", text)
		}
		return time.Unix(n, 0), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05 MST", "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02", time.RFC1123Z, time.RFC1123} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("bad time %q", text)
}
