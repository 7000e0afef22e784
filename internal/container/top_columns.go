package container

import (
	"bytes"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"strata/internal/errdef"
)

// psView is what the columns of one process are made from.
type psView struct {
	process
	now    time.Time
	boot   time.Time
	memory int64
	names  map[string]string // of users "u0" and groups "g0", looked up once
}

func newPsView() (*psView, error) {
	boot, err := bootTime()
	if err != nil {
		return nil, err
	}
	memory, err := machineMemory()
	return &psView{now: time.Now(), boot: boot, memory: memory, names: map[string]string{}}, err
}

// bootTime is when the machine was started.
func bootTime() (time.Time, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}, err
	}
	for line := range strings.Lines(string(raw)) {
		if value, ok := strings.CutPrefix(line, "btime "); ok {
			seconds, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return time.Unix(seconds, 0), err
		}
	}
	return time.Time{}, fmt.Errorf("boot time: %w", errdef.ErrNotFound)
}

// psColumn is a column of ps.
type psColumn struct {
	title string
	value func(v *psView) string
}

// psColumnNames are the columns that [psColumnOf] knows, by their first names.
func psColumnNames() []string {
	return strings.Fields("pid ppid pgid sid user ruser uid ruid group rgroup gid rgid comm args tty stat s time etime etimes lstart stime %cpu c %mem vsz rss nlwp ni pri")
}

// psColumnOf gives the column of a name of ps -o (ps(1), STANDARD FORMAT SPECIFIERS).
func psColumnOf(name string) (psColumn, bool) {
	number := func(get func(v *psView) int) func(*psView) string {
		return func(v *psView) string { return strconv.Itoa(get(v)) }
	}
	size := func(get func(v *psView) int64) func(*psView) string {
		return func(v *psView) string { return strconv.FormatInt(get(v)>>10, 10) }
	}
	switch name {
	case "pid":
		return psColumn{"PID", number(func(v *psView) int { return v.pid })}, true
	case "ppid":
		return psColumn{"PPID", number(func(v *psView) int { return v.parent })}, true
	case "pgid", "pgrp":
		return psColumn{strings.ToUpper(name), number(func(v *psView) int { return v.group })}, true
	case "sid", "sess", "session":
		title := map[string]string{"sid": "SID"}[name]
		return psColumn{first(title, "SESS"), number(func(v *psView) int { return v.session })}, true
	case "comm", "ucomm":
		return psColumn{"COMMAND", (*psView).short}, true
	case "ucmd":
		return psColumn{"CMD", (*psView).short}, true
	case "args", "command":
		return psColumn{"COMMAND", (*psView).command}, true
	case "cmd":
		return psColumn{"CMD", (*psView).command}, true
	case "tty", "tt":
		return psColumn{"TT", (*psView).terminal}, true
	case "tname":
		return psColumn{"TTY", (*psView).terminal}, true
	case "stat":
		return psColumn{"STAT", (*psView).status}, true
	case "s", "state":
		return psColumn{"S", func(v *psView) string { return string(v.state) }}, true
	case "vsz", "vsize":
		return psColumn{"VSZ", size(func(v *psView) int64 { return v.size })}, true
	case "rss", "rssize", "rsz":
		return psColumn{strings.ToUpper(name[:3]), size(func(v *psView) int64 { return v.rss })}, true
	case "%mem", "pmem":
		return psColumn{"%MEM", func(v *psView) string { return fmt.Sprintf("%.1f", float64(v.rss)*100/float64(max(v.memory, 1))) }}, true
	case "nlwp", "thcount":
		return psColumn{map[string]string{"nlwp": "NLWP", "thcount": "THCNT"}[name], number(func(v *psView) int { return v.threads })}, true
	case "ni", "nice":
		return psColumn{"NI", number(func(v *psView) int { return v.nice })}, true
	case "pri":
		return psColumn{"PRI", number(func(v *psView) int { return 39 - v.priority })}, true // ps's own scale
	}
	if c, ok := timeColumn(name); ok {
		return c, true
	}
	return ownerColumn(name)
}

// timeColumn gives the columns that tell of times.
func timeColumn(name string) (psColumn, bool) {
	switch name {
	case "time", "cputime":
		return psColumn{"TIME", func(v *psView) string { return clock(v.own, true) }}, true
	case "bsdtime":
		return psColumn{"TIME", func(v *psView) string { return fmt.Sprintf("%d:%02d", int(v.own.Minutes()), int(v.own.Seconds())%60) }}, true
	case "etime":
		return psColumn{"ELAPSED", func(v *psView) string { return clock(v.age(), false) }}, true
	case "etimes":
		return psColumn{"ELAPSED", func(v *psView) string { return strconv.Itoa(int(v.age().Seconds())) }}, true
	case "lstart":
		return psColumn{"STARTED", func(v *psView) string { return v.started().Format("Mon Jan _2 15:04:05 2006") }}, true
	case "stime", "start_time":
		return psColumn{map[string]string{"stime": "STIME", "start_time": "START"}[name], func(v *psView) string { return v.startedShort("Jan02", "2006") }}, true
	case "bsdstart":
		return psColumn{"START", func(v *psView) string { return v.startedShort("Jan02", "Jan02") }}, true
	case "%cpu", "pcpu":
		return psColumn{"%CPU", func(v *psView) string { return fmt.Sprintf("%.1f", v.load()) }}, true
	case "c":
		return psColumn{"C", func(v *psView) string { return strconv.Itoa(min(int(v.load()), 99)) }}, true
	}
	return psColumn{}, false
}

// ownerColumn gives the columns that tell whose the process is. The kernel names four ids: real, effective, saved, file
// system's.
func ownerColumn(name string) (psColumn, bool) {
	const real, effective = 0, 1
	column := func(title, kind string, which int, named bool) (psColumn, bool) {
		return psColumn{title, func(v *psView) string { return v.owner(kind, which, named) }}, true
	}
	title := strings.ToUpper(name)
	switch name {
	case "user", "uname", "euser":
		if name == "uname" {
			title = "USER"
		}
		return column(title, "Uid:", effective, true)
	case "ruser":
		return column(title, "Uid:", real, true)
	case "uid", "euid":
		return column(title, "Uid:", effective, false)
	case "ruid":
		return column(title, "Uid:", real, false)
	case "group", "egroup":
		return column(title, "Gid:", effective, true)
	case "rgroup":
		return column(title, "Gid:", real, true)
	case "gid", "egid":
		return column(title, "Gid:", effective, false)
	case "rgid":
		return column(title, "Gid:", real, false)
	}
	return psColumn{}, false
}

// owner reads an id of the process, and what this machine calls it.
func (v *psView) owner(kind string, which int, named bool) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.pid))
	if err != nil {
		return "?"
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) <= which+1 || f[0] != kind {
			continue
		}
		if named {
			return v.called(kind, f[which+1])
		}
		return f[which+1]
	}
	return "?"
}

func (v *psView) called(kind, id string) string {
	if name, ok := v.names[kind+id]; ok {
		return name
	}
	name := id
	if kind == "Uid:" {
		if u, err := user.LookupId(id); err == nil {
			name = u.Username
		}
	} else if g, err := user.LookupGroupId(id); err == nil {
		name = g.Name
	}
	v.names[kind+id] = name
	return name
}

func (v *psView) started() time.Time { return v.boot.Add(time.Duration(v.start) * tick) }

func (v *psView) age() time.Duration { return max(v.now.Sub(v.started()), 0) }

// load is the processor time in per cent of the time that the process has lived.
func (v *psView) load() float64 {
	return float64(v.own) * 100 / float64(max(v.age(), tick))
}

// startedShort is the hour of a start within the last day, else the date, else what far writes of another year.
func (v *psView) startedShort(near, far string) string {
	t := v.started()
	switch {
	case v.now.Sub(t) < 24*time.Hour:
		return t.Format("15:04")
	case t.Year() == v.now.Year():
		return t.Format(near)
	}
	return t.Format(far)
}

// clock is [DD-]HH:MM:SS; without hours, when there are none and they are not asked for, MM:SS.
func clock(d time.Duration, hours bool) string {
	s := int(d.Seconds())
	text := fmt.Sprintf("%02d:%02d", s/60%60, s%60)
	if h := s / 3600; hours || h > 0 {
		text = fmt.Sprintf("%02d:%s", h%24, text)
	}
	if days := s / 86400; days > 0 {
		text = fmt.Sprintf("%d-%s", days, text)
	}
	return text
}

// terminal names the process's terminal: pts are the majors from 136, the consoles major 4 (Documentation/admin-guide/
// devices.txt). The number's lower and upper bits surround the major.
func (v *psView) terminal() string {
	major, minor := v.tty>>8&0xfff, v.tty&0xff|v.tty>>12&0xfff00
	switch {
	case major >= 136 && major <= 143:
		return fmt.Sprintf("pts/%d", (major-136)<<8+minor)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	case major == 4:
		return fmt.Sprintf("ttyS%d", minor-64)
	}
	return "?"
}

// status is the state with ps's marks: priority, session leader, threads, foreground.
func (v *psView) status() string {
	s := string(v.state)
	switch {
	case v.nice < 0:
		s += "<"
	case v.nice > 0:
		s += "N"
	}
	if v.session == v.pid {
		s += "s"
	}
	if v.threads > 1 {
		s += "l"
	}
	if v.foreground > 0 && v.foreground == v.group {
		s += "+"
	}
	return s
}

// short is the program's name.
func (v *psView) short() string {
	if v.state == 'Z' {
		return v.name + " <defunct>"
	}
	return v.name
}

// maxCommand bounds what is read of a command line, which the process itself may make as long as it likes.
const maxCommand = 128 << 10

// command is the command line, or the name in brackets of what has none.
func (v *psView) command() string {
	raw, err := readSome(fmt.Sprintf("/proc/%d/cmdline", v.pid), maxCommand)
	if err != nil || len(raw) == 0 {
		if v.state == 'Z' {
			return "[" + v.name + "] <defunct>"
		}
		return "[" + v.name + "]"
	}
	return strings.TrimRight(string(bytes.ReplaceAll(raw, []byte{0}, []byte{' '})), " ")
}
