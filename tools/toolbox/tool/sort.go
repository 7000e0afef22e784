package tool

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// sortTool sorts lines: -n -h by number, -V by version, -r in reverse, -u without repeats, -f without case, -b without
// leading blanks, -k by a field (with -t), -c only checks, -o into a file.
func sortTool(p *Proc) error {
	o, names, err := p.opts("nhVrufbk:t:co:s", "numeric-sort=n", "human-numeric-sort=h", "version-sort=V", "reverse=r", "unique=u", "ignore-case=f",
		"ignore-leading-blanks=b", "key=k", "field-separator=t", "check=c", "output=o", "stable=s")
	if err != nil {
		return err
	}
	keys := []sortKey{{flags: flagString(o)}}
	if o.has('k') {
		keys = nil
		for _, text := range o['k'] {
			k, err := parseKey(text, flagString(o))
			if err != nil {
				return err
			}
			keys = append(keys, k)
		}
	}
	order := func(a, b string) int {
		for _, k := range keys {
			if c := k.compare(a, b, o.last('t', "")); c != 0 {
				return c
			}
		}
		if o.has('u') || o.has('s') {
			return 0
		}
		if c := strings.Compare(a, b); !o.has('r') {
			return c
		} else {
			return -c
		}
	}
	var all []string
	p.inputs(names, func(_ string, r io.Reader) error {
		return lines(r, func(line string) error { all = append(all, line); return nil })
	})
	if o.has('c') {
		if !slices.IsSortedFunc(all, order) {
			return Status(1)
		}
		return nil
	}
	slices.SortStableFunc(all, order)
	if o.has('u') {
		all = slices.CompactFunc(all, func(a, b string) bool { return order(a, b) == 0 })
	}
	text := strings.Join(append(all, ""), "\n")
	if o.has('o') {
		return os.WriteFile(o.last('o', ""), []byte(text), 0o666)
	}
	_, err = p.Out.WriteString(text)
	return err
}

func flagString(o opts) string {
	var b strings.Builder
	for _, c := range []byte("nhVrfb") {
		if o.has(c) {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// sortKey is one -k: fields from first to last (0: the line's end), counted from 1; first 0 is the whole line.
type sortKey struct {
	first, last int
	flags       string
}

// parseKey reads "2", "2,3", "2nr", "2,2n". Character positions within fields are not known.
func parseKey(text, global string) (sortKey, error) {
	number := strings.TrimRight(text, "nhVrfb")
	flags := text[len(number):]
	from, to, _ := strings.Cut(number, ",")
	from = strings.TrimRight(from, "nhVrfb")
	k := sortKey{flags: flags}
	if flags == "" {
		k.flags = global
	}
	var err1, err2 error
	k.first, err1 = strconv.Atoi(from)
	if to != "" {
		k.last, err2 = strconv.Atoi(to)
	}
	if err1 != nil || err2 != nil || k.first < 1 {
		return k, fmt.Errorf("bad key %q", text)
	}
	return k, nil
}

func (k sortKey) compare(a, b, sep string) int {
	a, b = k.field(a, sep), k.field(b, sep)
	if strings.Contains(k.flags, "b") {
		a, b = strings.TrimLeft(a, " \t"), strings.TrimLeft(b, " \t")
	}
	if strings.Contains(k.flags, "f") {
		a, b = strings.ToUpper(a), strings.ToUpper(b)
	}
	var c int
	switch {
	case strings.ContainsAny(k.flags, "nh"):
		c = cmp.Compare(leadingNumber(a), leadingNumber(b))
	case strings.Contains(k.flags, "V"):
		c = compareVersions(a, b)
	default:
		c = strings.Compare(a, b)
	}
	if strings.Contains(k.flags, "r") {
		return -c
	}
	return c
}

func (k sortKey) field(line, sep string) string {
	if k.first == 0 {
		return line
	}
	fields := strings.Fields(line)
	if sep != "" {
		fields = strings.Split(line, sep)
	}
	last := len(fields)
	if k.last > 0 {
		last = min(k.last, last)
	}
	if k.first > last {
		return ""
	}
	return strings.Join(fields[k.first-1:last], cmp.Or(sep, " "))
}

// leadingNumber is the number that s starts with, times its unit K, M, G, T if it has one.
func leadingNumber(s string) float64 {
	s = strings.TrimLeft(s, " \t")
	n := 0
	for n < len(s) && strings.IndexByte("-+.0123456789", s[n]) >= 0 {
		n++
	}
	f, _ := strconv.ParseFloat(s[:n], 64)
	if n < len(s) {
		for unit := strings.IndexByte("KMGTP", s[n]); unit >= 0; unit-- {
			f *= 1024
		}
	}
	return f
}

// compareVersions compares runs of digits as numbers and what is between as text.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		da, db := digits(a), digits(b)
		if da > 0 && db > 0 {
			na, nb := strings.TrimLeft(a[:da], "0"), strings.TrimLeft(b[:db], "0")
			if c := cmp.Or(cmp.Compare(len(na), len(nb)), strings.Compare(na, nb)); c != 0 {
				return c
			}
			a, b = a[da:], b[db:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

func digits(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }
