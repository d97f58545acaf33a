package once

import "context"

// condition is the key of a change's condition in its context.
type condition struct{}

// OnlyIf returns a context for a change that is to be made only if check
// returns nil when the store is about to make it. The check reads, and writes nothing: no other change can come
// between it and this one on the same server.
func OnlyIf(ctx context.Context, check func(context.Context) error) context.Context {
	return context.WithValue(ctx, condition{}, check)
}

// Check returns what the condition of a change says, nil where there is none. The store calls it when it is that change's turn.
func Check(ctx context.Context) error {
	check, ok := ctx.Value(condition{}).(func(context.Context) error)
	if !ok {
		return nil
	}
	return check(context.WithValue(ctx, condition{}, nil))
}
