/* Lesson 6: three experts. One small transformer each learns to read one kind of text: a story of light, a program, sums.
   Then each judges texts of all three kinds, and a letter that has something of all: the table shows the mean of -ln P a
   character. Each is best at home. What they said of every single character is kept, for lesson 7.

     cc -O2 examples/course/6_experts.c -o 6_experts -lm && ./6_experts      (from the repository's folder)

   Exercise: let a fourth expert learn from all three kinds at once (weights 1/3 each). How does it do at each? */
#include "course.h"
#define KINDS 3
#define CHARACTERS 300000   /* that each expert learns from */
