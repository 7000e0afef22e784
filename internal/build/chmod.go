package build

import (
	"fmt"
	"strconv"
	"strings"

	"strata/internal/errdef"
)

// Chmod is what --chmod makes of modes: one mode for all ("0644"), or changes to each ("u=rwX,go=rX").
//
// The changes are those of chmod(1) of BSD, which is BuildKit's: unlike GNU's they take set-id bits of directories as they
// take all others.
type Chmod struct {
	octal   uint32
	text    string // of changes; "" for an octal mode
	changes []modeChange
}

// modeChange sets ('+'), clears ('-') or sets where something may be executed ('X') its bits; or it copies ('u', 'g', 'o')
// the bits of one class of users to those of bits, as how says: '+', '-' or '='.
type modeChange struct {
	what, how byte
	bits      uint32
}

const (
	userBits   = 0o4700
	groupBits  = 0o2070
	otherBits  = 0o0007
	stickyBit  = 0o1000
	allClasses = userBits | groupBits | otherBits
)

// parseChmod reads --chmod; nil for none.
func parseChmod(word, text string) (*Chmod, error) {
	if text == "" {
		return nil, nil
	}
	if text[0] >= '0' && text[0] <= '9' {
		n, err := strconv.ParseUint(text, 8, 32)
		if err != nil || n > 0o7777 {
			return nil, fmt.Errorf("%s --chmod=%s: want an octal number from 0 to 7777: %w", word, text, errdef.ErrInvalid)
		}
		return &Chmod{octal: uint32(n)}, nil
	}
	c := &Chmod{text: text}
	for clause := range strings.SplitSeq(text, ",") {
		if !c.clause(clause) {
			return nil, fmt.Errorf("%s --chmod=%s: %q is no change of a mode, as u=rwX,go=rX is one: %w", word, text, clause, errdef.ErrInvalid)
		}
	}
	return c, nil
}

// clause reads one of the changes between commas: classes, then one or more of an operator with permissions.
func (c *Chmod) clause(text string) bool {
	classes := map[byte]uint32{'a': allClasses, 'u': userBits, 'g': groupBits, 'o': otherBits}
	who := uint32(0)
	for text != "" && classes[text[0]] != 0 {
		who |= classes[text[0]]
		text = text[1:]
	}
	if text == "" {
		return false
	}
	for text != "" {
		op := text[0]
		if op != '+' && op != '-' && op != '=' {
			return false
		}
		end := 1
		for end < len(text) && strings.IndexByte("rstwxXugo", text[end]) >= 0 {
			end++
		}
		c.operation(op, who, text[1:end])
		text = text[end:]
	}
	return true
}

// operation adds what op with permissions does to the classes who; none named means all.
func (c *Chmod) operation(op byte, who uint32, permissions string) {
	var bits, execute uint32
	done := op != '='
	flush := func(last bool) {
		if bits != 0 || last && !done {
			c.add(op, who, bits)
			bits, done = 0, true
		}
		if execute != 0 {
			c.add('X', who, execute)
			execute = 0
		}
	}
	for i := range len(permissions) {
		switch p := permissions[i]; p {
		case 'r':
			bits |= 0o444
		case 'w':
			bits |= 0o222
		case 'x':
			bits |= 0o111
		case 'X':
			if op == '-' {
				bits |= 0o111
			} else {
				execute = 0o111
			}
		case 's':
			if who == 0 || who&^otherBits != 0 {
				bits |= 0o6000
			}
		case 't':
			if who == 0 || who&^otherBits != 0 {
				who |= stickyBit
				bits |= stickyBit
			}
		case 'u', 'g', 'o':
			// What came before takes effect first; a copy with '=' then clears it.
			flush(false)
			done = true
			c.copy(p, op, who)
		}
	}
	flush(true)
}

func (c *Chmod) add(op byte, who, bits uint32) {
	if op == '=' {
		clear := who
		if who == 0 {
			clear = allClasses
		}
		c.changes = append(c.changes, modeChange{what: '-', bits: clear})
		op = '+'
	}
	if who != 0 {
		bits &= who
	}
	c.changes = append(c.changes, modeChange{what: op, bits: bits})
}

// copy adds the copying of class from's read, write and execute bits.
func (c *Chmod) copy(from, how byte, who uint32) {
	var bits uint32
	for _, class := range []uint32{0o700, 0o070, 0o007} {
		if who == 0 || who&class&0o444 != 0 {
			bits |= class
		}
	}
	c.changes = append(c.changes, modeChange{what: from, how: how, bits: bits})
}

// of gives what becomes of a mode. A nil Chmod leaves it.
func (c *Chmod) of(mode uint32, dir bool) uint32 {
	switch {
	case c == nil:
		return mode
	case c.text == "":
		return c.octal
	}
	old := mode
	for _, change := range c.changes {
		switch change.what {
		case '+':
			mode |= change.bits
		case '-':
			mode &^= change.bits
		case 'X':
			if dir || old&0o111 != 0 {
				mode |= change.bits
			}
		default:
			mode = change.copied(mode)
		}
	}
	return mode
}

func (m modeChange) copied(mode uint32) uint32 {
	shift := map[byte]uint{'u': 6, 'g': 3, 'o': 0}[m.what]
	value := mode >> shift & 7
	value = (value<<6 | value<<3 | value) & m.bits
	switch m.how {
	case '+':
		return mode | value
	case '-':
		return mode &^ value
	}
	return mode&^m.bits | value
}

// newDir is the mode of directories made for a destination: one mode for all is theirs too, as BuildKit has it.
func (c *Chmod) newDir() uint32 {
	if c == nil || c.text != "" {
		return 0o755
	}
	return c.octal & 0o777
}

// String is the same for all spellings of one octal mode.
func (c *Chmod) String() string {
	switch {
	case c == nil:
		return ""
	case c.text == "":
		return fmt.Sprintf("%04o", c.octal)
	}
	return c.text
}
