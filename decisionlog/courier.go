package decisionlog

import (
	"context"
	"fmt"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// courier carries out one plan.
type courier struct {
	*Forwarder
	plan *Plan
	measure
	shift    Shift  // as last read or written
	failures int    // in a row
	said     string // the failure that is in the log already
	stubborn int    // in a row: chunks of which the sink took nothing
}

// Bounds of the sending.
const (
	beyond       = 5 * time.Second // that a shift lasts longer than a request
	maxRefused   = 8               // events refused one by one, and none taken, after which it is the sink that is in trouble
	maxStubborn  = 10              // times that this may be, before those events are left out
	lastGoodbyes = 2 * time.Second // to give the shift back at the end
)

// step sends one chunk, if it is this process's turn. more says that there is more to send.
func (c *courier) step(ctx context.Context, step *Step) (more bool, err error) {
	mine, err := c.turn(ctx)
	if lost(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	size, err := c.Record.Size(ctx)
	if err != nil {
		return false, err
	}
	if step.Waiting = size - c.shift.Next; step.Waiting <= 0 {
		step.Waiting = 0
		return false, nil
	}
	most := maxStretch
	if !mine {
		most = 1 // only to tell how old it is
	}
	leaves, err := c.Record.Leaves(ctx, c.shift.Next, most)
	if err != nil || len(leaves) == 0 {
		return false, err
	}
	step.Age = age(leaves[0], c.Now())
	if !mine {
		return false, nil
	}
	chunk, err := compose(ctx, c.plan.Scribe, c.shift.Next, leaves, c.plain())
	if err != nil {
		return false, err
	}
	err = c.deliver(ctx, chunk, step)
	if lost(err) {
		c.shift.Holder = ""
		return false, nil
	}
	return err == nil && c.shift.Next < size, err
}

// turn finds out whose turn it is. It writes nothing as long as there is a shift.
func (c *courier) turn(ctx context.Context) (mine bool, err error) {
	sink := c.plan.Sink.URL()
	if c.shift, err = c.Shifts.Shift(ctx, sink); fault.Is(err, fault.NotFound) {
		start, err := c.begin(ctx, c.plan.Start)
		if err != nil {
			return false, err
		}
		return true, c.hold(ctx, start)
	}
	return c.shift.Holder == c.Process || c.shift.Holder == "" || !c.shift.Until.After(c.Now()), err
}

// hold makes sure that the shift is ours for as long as a request takes.
func (c *courier) hold(ctx context.Context, start int64) error {
	now := c.Now()
	if c.shift.Holder == c.Process && c.shift.Until.Sub(now) > c.plan.Sink.address.Timeout+beyond/4 {
		return nil
	}
	before := c.shift
	var err error
	c.shift, err = c.Shifts.TakeShift(ctx, c.plan.Sink.URL(), start, c.Process, now, c.until(now))
	if err == nil && (c.shift.Holder != c.Process || before.Holder != "" && before.Next != c.shift.Next) {
		err = fault.New(fault.Conflict, "shift_lost", "another process sends to this sink by now")
	}
	return err
}

func (c *courier) until(now time.Time) time.Time {
	return now.Add(c.plan.Sink.address.Timeout + beyond)
}

// move notes how far the record was sent.
func (c *courier) move(ctx context.Context, next int64) error {
	until := c.until(c.Now())
	err := c.Shifts.MoveShift(ctx, c.plan.Sink.URL(), c.Process, next, until)
	if err == nil {
		c.shift.Next, c.shift.Until = next, until
	}
	return err
}

// leave gives the shift back, so that nobody waits for its end.
func (c *courier) leave() {
	if c.shift.Holder != c.Process {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastGoodbyes)
	defer cancel()
	_ = c.Shifts.MoveShift(ctx, c.plan.Sink.URL(), c.Process, c.shift.Next, c.Now()) // else it ends by itself
}

// deliver sends a chunk, in parts where the sink will not take it whole, and
// notes how far it came.
func (c *courier) deliver(ctx context.Context, k *chunk, step *Step) error {
	if err := c.hold(ctx, c.shift.Next); err != nil {
		return err
	}
	settled, left, err := k.end, []letter(nil), error(nil)
	if len(k.letters) > 0 {
		settled, left, err = c.send(ctx, k, step)
	}
	if settled > k.first {
		if moved := c.move(ctx, settled); moved != nil {
			return moved
		}
		c.tell(k, settled, left, step)
		step.Waiting -= settled - k.first
	}
	return err
}

// send sends the letters of a chunk. It returns up to which index they are
// settled: taken, or left out for good.
func (c *courier) send(ctx context.Context, k *chunk, step *Step) (settled int64, left []letter, err error) {
	packed, err := c.fit(k)
	if err != nil {
		return k.first, nil, err
	}
	settled = k.first
	accepted := 0
	parts := [][]letter{k.letters} // still to be sent, in order
	for len(parts) > 0 {
		part := parts[0]
		if packed == nil {
			if packed, err = pack(part); err != nil {
				return settled, left, err
			}
		}
		if err := c.hold(ctx, c.shift.Next); err != nil {
			return settled, left, err
		}
		refused := c.plan.Sink.post(ctx, packed, c.Now())
		switch {
		case refused == nil:
			parts = parts[1:]
			if accepted == 0 { // what it refused before it took anything, it may take by now
				parts, left = append(singly(left), parts...), nil
			}
			accepted += len(part)
			step.Sent += len(part)
		case refused.verdict != unfit:
			return c.settledBefore(k, part, accepted, left, refused)
		case len(part) > 1:
			if refused.tooLarge() {
				c.limit = max(LeastLimit, len(packed)/2)
			}
			parts = append([][]letter{part[:len(part)/2], part[len(part)/2:]}, parts[1:]...)
		default:
			left, parts = append(left, part...), parts[1:]
			if accepted == 0 && len(left) == maxRefused {
				return c.stuck(k, parts, left, refused)
			}
		}
		packed = nil
	}
	if accepted == 0 {
		return c.stuck(k, nil, left, &refusal{verdict: unfit, says: fmt.Sprintf("the sink refuses every event, such as %s", left[0].id)})
	}
	c.stubborn = 0
	return k.end, left, nil
}

func singly(letters []letter) [][]letter {
	parts := make([][]letter, len(letters))
	for i := range letters {
		parts[i] = letters[i : i+1]
	}
	return parts
}

// settledBefore is how far a chunk came that the sink stopped taking at part. What
// it refused before that counts as refused only if it has taken something else.
func (c *courier) settledBefore(k *chunk, part []letter, accepted int, left []letter, why *refusal) (int64, []letter, error) {
	if accepted == 0 {
		return k.first, nil, why
	}
	c.stubborn = 0
	return part[0].index, left, why
}

// stuck is how far a chunk comes of which the sink takes nothing: that looks
// like trouble with the sink, and not with the events. Only if it stays so are they left out.
func (c *courier) stuck(k *chunk, rest [][]letter, left []letter, why *refusal) (int64, []letter, error) {
	if c.stubborn++; c.stubborn < maxStubborn {
		return k.first, nil, why
	}
	c.stubborn = 0
	if len(rest) > 0 {
		return rest[0][0].index, left, nil
	}
	return k.end, left, nil
}

// tell counts and logs what was not sent, or not whole, up to the index settled.
func (c *courier) tell(k *chunk, settled int64, left []letter, step *Step) {
	for _, l := range left {
		step.Refused++
		c.Log.Warn("the sink refuses a decision; it is left out", "sink", c.plan.Sink.URL(), "decision", l.id, "entry", l.index)
	}
	for _, o := range k.oddities {
		switch {
		case o.index >= settled:
			return
		case o.cause == errDropped:
			step.Dropped++
		case isMask(o.cause):
			step.Blotted++
			c.Log.Error("the masks of the policy failed; input and result of a decision are not sent", "entry", o.index, "error", o.cause)
		default:
			step.Unreadable++
			c.Log.Error("no event can be made of an entry of the record", "entry", o.index, "error", o.cause)
		}
	}
}
