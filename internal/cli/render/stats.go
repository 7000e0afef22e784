package render

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// StatsRow is a line of `stats`.
type StatsRow struct {
	BlockIO   string `heading:"BLOCK I/O"` // [Pair]
	CPUPerc   string `heading:"CPU %"`     // [Percent]
	Container string
	ID        string `heading:"CONTAINER ID"`
	MemPerc   string `heading:"MEM %"`
	MemUsage  string `heading:"MEM USAGE / LIMIT"` // [BinarySize]
	Name      string
	NetIO     string `heading:"NET I/O"`
	PIDs      string `heading:"PIDS"`
}

// StatsColumns are the columns of `stats`.
func StatsColumns() []string {
	return []string{"ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"}
}

// Percent is a share as docker writes it.
func Percent(p float64) string { return fmt.Sprintf("%.2f%%", p) }

// Pair is two sizes as docker writes what went in and out, "-- / --" when they are unknown, which negative ones are.
func Pair(in, out int64) string {
	if in < 0 || out < 0 {
		return "-- / --"
	}
	return HumanSizePrecision(in, 3) + " / " + HumanSizePrecision(out, 3)
}

// Screen shows one text after another in the place of the one before, if it is a terminal; else below it.
type Screen struct {
	w        io.Writer
	terminal bool
}

// NewScreen makes a screen of w.
func NewScreen(w io.Writer) *Screen {
	f, ok := w.(*os.File)
	return &Screen{w: w, terminal: ok && IsTerminal(f)}
}

// Show shows text, lines that each end.
func (s *Screen) Show(text []byte) error {
	if s.terminal {
		// Each line is cleared behind its end and the rest below: nothing flickers.
		text = bytes.ReplaceAll(text, []byte("\n"), []byte("\x1b[K\n"))
		text = append(append([]byte("\x1b[H"), text...), "\x1b[J"...)
	}
	_, err := s.w.Write(text)
	return err
}

// Processes prints what `top` lists: ps's columns, each at least twenty wide.
func Processes(w io.Writer, titles []string, rows [][]string) error {
	return tableWidth(w, 20, titles, rows)
}
