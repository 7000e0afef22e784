package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"strata/internal/errdef"
)

// Top lists the processes of a running container as ps does, with ps's options; none are "-ef". What most people ask ps for
// is read from /proc; for the rest the machine's own ps is asked, as docker does.
func (s *Store) Top(ctx context.Context, rec Record, options []string) (titles []string, rows [][]string, err error) {
	if !rec.State.Alive() {
		return nil, nil, fmt.Errorf("container %s is not running: %w", rec.Name, errdef.ErrConflict)
	}
	all, err := s.processes(rec)
	if err != nil {
		return nil, nil, err
	}
	s.Emit(rec, "top")
	columns, known := psColumns(options)
	if !known {
		return runPs(ctx, options, all)
	}
	v, err := newPsView()
	if err != nil {
		return nil, nil, err
	}
	for _, c := range columns {
		titles = append(titles, c.title)
	}
	for _, p := range all {
		v.process = p
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = c.value(v)
		}
		rows = append(rows, row)
	}
	return titles, rows, nil
}

// psColumns are the columns that ps's options ask for; known is false for options that only ps itself understands. Which
// processes ps would choose does not matter: they are the container's.
func psColumns(options []string) (columns []psColumn, known bool) {
	if len(options) == 0 {
		options = []string{"-ef"}
	}
	var o psOptions
	for len(options) > 0 {
		if options, known = o.take(options); !known {
			return nil, false
		}
	}
	switch {
	case len(o.list) > 0:
		return namedColumns(o.list)
	case o.full:
		return defaultColumns("uname=UID pid ppid c stime tname time cmd")
	case o.user:
		return defaultColumns("user pid %cpu %mem vsz rss tname stat bsdstart bsdtime command")
	case o.bsd:
		return defaultColumns("pid tname stat bsdtime command")
	}
	return defaultColumns("pid tname time ucmd")
}

// psOptions are those of ps's options that decide the columns: -f, u, any without a dash, the lists of -o.
type psOptions struct {
	full, user, bsd bool
	list            []string
}

// take reads the first word of options, with the next one where that is its list, and gives the rest.
func (o *psOptions) take(options []string) (rest []string, known bool) {
	letters, dashed := strings.CutPrefix(options[0], "-")
	rest = options[1:]
	if strings.HasPrefix(letters, "aux") { // as ps takes it, dashed or not
		dashed = false
	}
	o.bsd = o.bsd || !dashed
	for i, letter := range letters {
		switch {
		case letter == 'o':
			if list := letters[i+1:]; list != "" {
				o.list = append(o.list, list)
				return rest, true
			}
			if len(rest) == 0 {
				return nil, false
			}
			o.list = append(o.list, rest[0])
			return rest[1:], true
		case dashed && letter == 'f':
			o.full = true
		case !dashed && letter == 'u':
			o.user = true
		case dashed && strings.ContainsRune("eAxw", letter), !dashed && strings.ContainsRune("axw", letter):
		default:
			return nil, false
		}
	}
	return rest, true
}

func defaultColumns(names string) ([]psColumn, bool) { return namedColumns(strings.Fields(names)) }

// namedColumns reads lists such as "pid,comm=NAME".
func namedColumns(lists []string) ([]psColumn, bool) {
	var columns []psColumn
	for _, list := range lists {
		for _, item := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
			name, title, titled := strings.Cut(item, "=")
			c, ok := psColumnOf(name)
			if !ok {
				return nil, false
			}
			if titled {
				c.title = title
			}
			columns = append(columns, c)
		}
	}
	return columns, len(columns) > 0
}

// runPs asks the machine's ps and keeps the lines of the container's processes.
func runPs(ctx context.Context, options []string, all []process) (titles []string, rows [][]string, err error) {
	program, err := exec.LookPath("ps")
	if err != nil {
		return nil, nil, errdef.WithHint(fmt.Errorf("top: options %q need the program ps, which is not here: %w", options, errdef.ErrUnavailable),
			"without it there are: -ef, -e, ax, aux, and -o with "+strings.Join(psColumnNames(), ","))
	}
	pids := make([]string, len(all))
	for i, p := range all {
		pids[i] = strconv.Itoa(p.pid)
	}
	// Some options do not go together with a choice of processes: then ps lists what it likes, and we choose.
	out, err := ps(ctx, program, append(slices.Clone(options), "-q", strings.Join(pids, ",")))
	if err != nil {
		if out, err = ps(ctx, program, options); err != nil {
			return nil, nil, err
		}
	}
	return choosePs(out, pids)
}

func ps(ctx context.Context, program string, options []string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, program, options...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		said, _, _ := bytes.Cut(bytes.TrimSpace(exit.Stderr), []byte("\n"))
		return nil, fmt.Errorf("ps: %s: %w", said, errdef.ErrInvalid)
	}
	return out, err
}

// choosePs takes the lines of pids from ps's table. The last column may hold blanks.
func choosePs(out []byte, pids []string) (titles []string, rows [][]string, err error) {
	head, body, _ := strings.Cut(string(out), "\n")
	titles = strings.Fields(head)
	at := slices.Index(titles, "PID")
	if at < 0 {
		return nil, nil, fmt.Errorf("couldn't find PID field in ps output: %w", errdef.ErrInvalid)
	}
	member := false
	for line := range strings.Lines(body) {
		f := strings.Fields(line)
		if len(f) <= at {
			continue
		}
		if f[at] != "-" { // a thread's line belongs to the process above it
			member = slices.Contains(pids, f[at])
		}
		if !member {
			continue
		}
		if last := len(titles) - 1; len(f) > last+1 {
			f = append(f[:last], strings.Join(f[last:], " "))
		}
		rows = append(rows, f)
	}
	return titles, rows, nil
}
