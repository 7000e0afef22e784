package tool

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// test evaluates a condition: status 0 true, 1 false, 2 nonsense. "[" is its other name.
func test(p *Proc) error {
	args := p.Args
	if p.Name == "[" {
		if len(args) == 0 || args[len(args)-1] != "]" {
			return condError(p, errors.New("] is missing"))
		}
		args = args[:len(args)-1]
	}
	c := &condition{args: args}
	ok := false
	if len(args) > 0 {
		ok = c.or()
	}
	if c.err == nil && len(c.args) > 0 {
		c.err = fmt.Errorf("unexpected %q", c.args[0])
	}
	if c.err != nil {
		return condError(p, c.err)
	}
	if !ok {
		return Status(1)
	}
	return nil
}

func condError(p *Proc, err error) error {
	p.warn(err)
	return Status(2)
}

// condition is a recursive-descent parser: or, and, not, primary.
type condition struct {
	args []string
	err  error
}

func (c *condition) is(word string) bool { return len(c.args) > 0 && c.args[0] == word }

func (c *condition) or() bool {
	v := c.and()
	for c.is("-o") {
		c.args = c.args[1:]
		w := c.and()
		v = v || w
	}
	return v
}

func (c *condition) and() bool {
	v := c.not()
	for c.is("-a") {
		c.args = c.args[1:]
		w := c.not()
		v = v && w
	}
	return v
}

func (c *condition) not() bool {
	if c.is("!") && len(c.args) > 1 {
		c.args = c.args[1:]
		return !c.not()
	}
	return c.primary()
}

func (c *condition) primary() bool {
	switch {
	case len(c.args) == 0:
		c.err = errors.New("an operand is missing")
		return false
	case len(c.args) >= 3 && binaryTest(c.args[1]) != nil:
		a, op, b := c.args[0], c.args[1], c.args[2]
		c.args = c.args[3:]
		v, err := binaryTest(op)(a, b)
		if err != nil {
			c.err = err
		}
		return v
	case c.is("(") && len(c.args) > 2:
		c.args = c.args[1:]
		v := c.or()
		if !c.is(")") {
			c.err = errors.New(") is missing")
			return false
		}
		c.args = c.args[1:]
		return v
	case len(c.args) >= 2 && len(c.args[0]) == 2 && c.args[0][0] == '-' && unaryTest(c.args[0][1]) != nil:
		v := unaryTest(c.args[0][1])(c.args[1])
		c.args = c.args[2:]
		return v
	}
	v := c.args[0] != ""
	c.args = c.args[1:]
	return v
}

func unaryTest(op byte) func(string) bool {
	mode := func(want, mask uint32) func(string) bool {
		return func(name string) bool {
			var st unix.Stat_t
			return unix.Stat(name, &st) == nil && st.Mode&mask == want
		}
	}
	access := func(how uint32) func(string) bool {
		return func(name string) bool { return unix.Access(name, how) == nil }
	}
	return map[byte]func(string) bool{
		'n': func(s string) bool { return s != "" },
		'z': func(s string) bool { return s == "" },
		'e': mode(0, 0), 'f': mode(unix.S_IFREG, unix.S_IFMT), 'd': mode(unix.S_IFDIR, unix.S_IFMT), 'p': mode(unix.S_IFIFO, unix.S_IFMT),
		'S': mode(unix.S_IFSOCK, unix.S_IFMT), 'b': mode(unix.S_IFBLK, unix.S_IFMT), 'c': mode(unix.S_IFCHR, unix.S_IFMT),
		'u': mode(unix.S_ISUID, unix.S_ISUID), 'g': mode(unix.S_ISGID, unix.S_ISGID), 'k': mode(unix.S_ISVTX, unix.S_ISVTX),
		'L': isLink, 'h': isLink,
		'r': access(unix.R_OK), 'w': access(unix.W_OK), 'x': access(unix.X_OK),
		's': func(name string) bool { st, err := os.Stat(name); return err == nil && st.Size() > 0 },
		't': func(fd string) bool { n, err := strconv.Atoi(fd); return err == nil && term.IsTerminal(n) },
	}[op]
}

func isLink(name string) bool {
	st, err := os.Lstat(name)
	return err == nil && st.Mode()&os.ModeSymlink != 0
}

func binaryTest(op string) func(a, b string) (bool, error) {
	text := func(f func(a, b string) bool) func(string, string) (bool, error) {
		return func(a, b string) (bool, error) { return f(a, b), nil }
	}
	number := func(f func(a, b int64) bool) func(string, string) (bool, error) {
		return func(a, b string) (bool, error) {
			x, err1 := strconv.ParseInt(a, 10, 64)
			y, err2 := strconv.ParseInt(b, 10, 64)
			if err1 != nil || err2 != nil {
				return false, fmt.Errorf("%q %s %q: not numbers", a, op, b)
			}
			return f(x, y), nil
		}
	}
	return map[string]func(a, b string) (bool, error){
		"=": text(func(a, b string) bool { return a == b }), "==": text(func(a, b string) bool { return a == b }),
		"!=": text(func(a, b string) bool { return a != b }),
		"<":  text(func(a, b string) bool { return a < b }), ">": text(func(a, b string) bool { return a > b }),
		"-eq": number(func(a, b int64) bool { return a == b }), "-ne": number(func(a, b int64) bool { return a != b }),
		"-lt": number(func(a, b int64) bool { return a < b }), "-le": number(func(a, b int64) bool { return a <= b }),
		"-gt": number(func(a, b int64) bool { return a > b }), "-ge": number(func(a, b int64) bool { return a >= b }),
		"-nt": text(func(a, b string) bool { return newer(a, b) }), "-ot": text(func(a, b string) bool { return newer(b, a) }),
		"-ef": text(func(a, b string) bool {
			x, err1 := os.Stat(a)
			y, err2 := os.Stat(b)
			return err1 == nil && err2 == nil && os.SameFile(x, y)
		}),
	}[op]
}

func newer(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && (err2 != nil || x.ModTime().After(y.ModTime()))
}
