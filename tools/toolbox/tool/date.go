package tool

import (
	"fmt"
	"strings"
	"time"
)

// date prints the time: -u in UTC, -d another time, -r a file's, -I[date|seconds] and -R in fixed forms, +FORMAT.
func date(p *Proc) error {
	iso := ""
	for i, a := range p.Args { // the value of -I is attached or absent
		if form, ok := strings.CutPrefix(a, "--iso-8601"); ok || strings.HasPrefix(a, "-I") {
			iso = "date" + strings.TrimPrefix(strings.TrimPrefix(form, "="), "-I")
			p.Args = append(p.Args[:i:i], p.Args[i+1:]...)
			break
		}
	}
	o, args, err := p.opts("ud:r:R", "utc=u", "universal=u", "date=d", "reference=r", "rfc-email=R")
	if err != nil {
		return err
	}
	t, err := timeOf(o)
	if err != nil {
		return err
	}
	if o.has('u') {
		t = t.UTC()
	}
	format := "%a %b %e %H:%M:%S %Z %Y"
	switch {
	case len(args) > 0 && strings.HasPrefix(args[0], "+"):
		format = args[0][1:]
	case len(args) > 0:
		return fmt.Errorf("setting the clock (%q) is not for a container", args[0])
	case o.has('R'):
		format = "%a, %d %b %Y %H:%M:%S %z"
	case iso == "dateseconds" || iso == "dates":
		format = "%Y-%m-%dT%H:%M:%S%:z"
	case iso != "":
		format = "%Y-%m-%d"
	}
	fmt.Fprintln(p.Out, strftime(t, format))
	return nil
}

// strftime formats a time as strftime(3) does, in the C locale.
func strftime(t time.Time, format string) string {
	layouts := map[byte]string{
		'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'h': "Jan", 'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'm': "01", 'M': "04",
		'p': "PM", 'S': "05", 'y': "06", 'Y': "2006", 'z': "-0700", 'Z': "MST", 'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'D': "01/02/06",
		'c': "Mon Jan _2 15:04:05 2006", 'x': "01/02/06", 'X': "15:04:05",
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		if (format[i] == '-' || format[i] == '_') && i+1 < len(format) { // without padding
			i++
			b.WriteString(strings.TrimLeft(t.Format(layouts[format[i]]), "0 "))
			continue
		}
		switch c := format[i]; {
		case c == 's':
			fmt.Fprint(&b, t.Unix())
		case c == 'N':
			fmt.Fprintf(&b, "%09d", t.Nanosecond())
		case c == 'j':
			fmt.Fprintf(&b, "%03d", t.YearDay())
		case c == 'u':
			fmt.Fprint(&b, (int(t.Weekday())+6)%7+1)
		case c == 'w':
			fmt.Fprint(&b, int(t.Weekday()))
		case c == 'V':
			_, week := t.ISOWeek()
			fmt.Fprintf(&b, "%02d", week)
		case c == 'n':
			b.WriteByte('\n')
		case c == 't':
			b.WriteByte('\t')
		case c == ':' && strings.HasPrefix(format[i:], ":z"):
			i++
			b.WriteString(t.Format("-07:00"))
		case layouts[c] != "":
			b.WriteString(t.Format(layouts[c]))
		case c == '%':
			b.WriteByte('%')
		default:
			b.WriteString("%" + string(c))
		}
	}
	return b.String()
}
