package atomicfile

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math/bits"
	"slices"
	"strconv"

	"strata/internal/errdef"
)

// A stamp is the first member of a JSON object: the CRC-32C, in hexadecimal, of the object without it. It tells a byte
// that rotted on the disk from one that was written, where the bytes alone would still make sense.
const (
	stampHead = `{"crc":"`
	stampTail = `",`
	stampLen  = len(stampHead) + 8 + len(stampTail)
)

// castagnoli is the polynomial that processors have an instruction for.
func castagnoli(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }

// Stamp puts a stamp into a JSON object. Who reads it as JSON finds one member more. Anything else is given back as it is.
func Stamp(object []byte) []byte {
	if len(object) < 3 || object[0] != '{' {
		return object
	}
	out := make([]byte, 0, len(object)+stampLen)
	out = fmt.Appendf(out, "%s%08x%s", stampHead, castagnoli(object), stampTail)
	return append(out, object[1:]...)
}

// Unstamp checks the stamp of a JSON object and takes it out, in place: errdef.ErrCorrupt when the object has none, or one
// of other bytes.
func Unstamp(raw []byte) ([]byte, error) {
	if len(raw) <= stampLen || !bytes.HasPrefix(raw, []byte(stampHead)) || string(raw[stampLen-len(stampTail):stampLen]) != stampTail {
		return nil, fmt.Errorf("it has no checksum: %w", errdef.ErrCorrupt)
	}
	sum := string(raw[len(stampHead) : len(stampHead)+8])
	object := raw[stampLen-1:]
	object[0] = '{'
	if got := fmt.Sprintf("%08x", castagnoli(object)); got != sum {
		return nil, fmt.Errorf("its bytes have the checksum %s, not %.8q: %w", got, sum, errdef.ErrCorrupt)
	}
	return object, nil
}

// Strip takes a stamp out of an object without looking whether it is right.
func Strip(raw []byte) []byte {
	if !Stamped(raw) || len(raw) <= stampLen {
		return raw
	}
	return append([]byte("{"), raw[stampLen:]...)
}

// Stamped reports whether raw begins as a stamped object does.
func Stamped(raw []byte) bool { return bytes.HasPrefix(raw, []byte(stampHead)) }

// Correct gives back a stamped object in which one bit rotted, as it was before: a CRC-32C tells which bit that is. ok is false
// when the damage is another.
func Correct(raw []byte) (object []byte, ok bool) {
	if len(raw) <= stampLen {
		return nil, false
	}
	fixed := slices.Clone(raw)
	copy(fixed, stampHead) // which is always the same
	copy(fixed[stampLen-len(stampTail):], stampTail)
	sum, err := strconv.ParseUint(string(fixed[len(stampHead):len(stampHead)+8]), 16, 32)
	object = fixed[stampLen-1:]
	object[0] = '{'
	if stampRotted(raw, castagnoli(object)) {
		return object, true
	}
	if err != nil || !bytes.Equal(raw[:stampLen-1], fixed[:stampLen-1]) {
		return nil, false // the stamp and something else
	}
	// What the sums differ by is what the bit adds to the sum of a text of zeros; from the end each byte shifts it on.
	table, syndrome := crc32.MakeTable(crc32.Castagnoli), uint32(sum)^castagnoli(object)
	var adds [8]uint32
	for b := range adds {
		adds[b] = table[1<<b]
	}
	for at := len(object) - 1; at > 0; at-- {
		for b := range adds {
			if adds[b] == syndrome {
				object[at] ^= 1 << b
				return object, castagnoli(object) == uint32(sum)
			}
			adds[b] = table[byte(adds[b])] ^ adds[b]>>8
		}
	}
	return nil, false
}

// stampRotted reports whether the stamp differs in one bit at most from the one of an object with that sum.
func stampRotted(raw []byte, sum uint32) bool {
	want := fmt.Sprintf("%s%08x%s", stampHead, sum, stampTail)
	wrong := 0
	for i := range stampLen {
		wrong += bits.OnesCount8(raw[i] ^ want[i])
	}
	return wrong <= 1
}
