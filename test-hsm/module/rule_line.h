/* rule_line.h - parse the words that follow `on`, `fault` and `random`. */
#ifndef FAULT_RULE_LINE_H
#define FAULT_RULE_LINE_H

#include "line.h"
#include "rules.h"

/** on FUNCTIONS CONDITIONS... ACTIONS... */
bool fault_rule_read(struct fault_line *line, struct fault_rule *out);

/** fault NUMBER CONDITIONS... */
bool fault_rule_read_numbered(struct fault_line *line, struct fault_rule *out);

/** random seed N rate SHARE faults LIST ... */
bool fault_random_read(struct fault_line *line, struct fault_random *out);

/** Read a token's label; a longer one is refused. */
bool fault_line_label(struct fault_line *line, char label[FAULT_LABEL_SIZE]);

#endif
