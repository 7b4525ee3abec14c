"""Single-flight: one fetch of a key at a time, over all replicas of the stage (bus/PROTOCOL.md section 8, "Flights").

flights     the actor's part: asks the owner of a key, tells its own fetches, and is asked
flight_answer  what an asker is told    verdicts  in one word
lease       a fetch of this process, from its answer to its outcome     states  those that others are told of
joins       who reads along: the growths of this process, and the other processes that follow its own
table       what the owner of keys decides: who fetches, who waits
settling    keys that have just come to this owner: nobody fetches them until all others have told of theirs
back_off    keys whose fetch failed, and when the next may be tried
unstorable  keys whose answers are not to be stored
known       what explain is told of a key
growth      a part file of the store as this process knows it: how much there is, and whether that is all
growing_body  what a client reads from it, at its own pace      tail  what of it does not go into the file any more
"""
